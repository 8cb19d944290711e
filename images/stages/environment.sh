#!/bin/sh
# Makes the environment that an image runs, on the base's own Python: environment.sh FOLDER EXTRAS [REQUIREMENT ...]
#
# Installs Pagemill from /src with the EXTRAS and further REQUIREMENTs; llama-cpp-python only from /wheels, where
# llama_cpp.sh put it. Builds what would else need a compiler at run time, removes what is never read, and compiles all
# byte code: the root file system is read-only later.
set -eu
cd "$(dirname "$0")"
prefix=$1 extras=$2
shift 2
: "${INDEX:=}"
tools=${TOOLS:-/opt/build}/bin
python=$prefix/bin/python
umask 022

install() {
    "$tools/pip" --python "$python" install --no-compile --only-binary llama-cpp-python --find-links /wheels \
        --constraint /src/constraints.txt ${INDEX:+--index-url "$INDEX"} "$@"
}

python3 -m venv --without-pip "$prefix"
"$tools/pip" wheel --no-deps --wheel-dir /wheels ${INDEX:+--index-url "$INDEX"} /src
case ,$extras, in
    # By itself: with other packages beside it pip may take another release than the pinned one.
    *,paged,*) (INDEX=${TORCH_INDEX:-$INDEX} && install "$(grep '^torch==' /src/constraints.txt)") ;;
esac
install "$(ls /wheels/pagemill-*.whl)[$extras]" "$@"

if "$python" -c 'import torch' 2>/dev/null; then "$python" -m pagemill.backends.paged.native.build; fi
if "$python" -c 'import triton' 2>/dev/null; then "$python" -m pagemill.backends.paged.triton_cache; fi

"$tools/python" trim.py "$prefix"
# Checked against nothing at run time: no file here ever changes, and times get lost in layers. PyTorch's own tests are
# in the Python of releases to come.
"$python" -m compileall -q --invalidation-mode unchecked-hash -j 0 -x '/testing/_internal/' "$prefix/lib"
chmod -R a+rX,go-w "$prefix"
