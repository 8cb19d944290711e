#!/bin/sh
# Compiles llama-cpp-python for a fleet of machines, not for this one: llama_cpp.sh WHEELS CACHE
#
# Reads the version from constraints.txt beside it and puts the wheel into WHEELS. Compiling takes 10 minutes on two
# cores, so a wheel of the same version, options, machine and C library is taken from the folder CACHE if it is there.
set -eu
cd "$(dirname "$0")"
wheels=$1 cache=$2

# The CPU's kernels become one library for each kind of CPU, chosen when llama.cpp starts; the rest is for any CPU of the
# architecture. All libraries go into the package itself, where pagemill.backends.gguf.library looks for them.
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DLLAVA_BUILD=OFF
 -DCMAKE_INSTALL_LIBDIR=llama_cpp/lib -DCMAKE_INSTALL_BINDIR=llama_cpp/lib -DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include"
export CMAKE_ARGS="$(echo $CMAKE_ARGS)"

requirement=$(grep '^llama-cpp-python==' constraints.txt)
key=$(echo "$requirement $CMAKE_ARGS $(uname -m) $(ldd --version | head -n 1)" | sha256sum | cut -c 1-16)
mkdir -p "$wheels"
if ! cp "$cache/$key"/*.whl "$wheels" 2>/dev/null; then
    "${TOOLS:-/opt/build}/bin/pip" wheel --no-deps --no-cache-dir --no-binary llama-cpp-python \
        ${INDEX:+--index-url "$INDEX"} --wheel-dir "$wheels" "$requirement"
    partial=$(mktemp -d "$cache/partial.XXXXXX")  # another build may be at it too
    cp "$wheels"/*.whl "$partial"
    mv -T "$partial" "$cache/$key" || rm -rf "$partial"
fi
