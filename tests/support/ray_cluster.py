"""A program: Ray with two CPUs on this machine, and on it what `serve run CONFIG` deploys, until standard input ends.

python ray_cluster.py CONFIG TEMPORARY_FOLDER
"""

import sys

import ray
from ray import serve
from ray.serve.scripts import run

if __name__ == "__main__":
    config, folder = sys.argv[1:]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        namespace="serve",
        object_store_memory=100 * 2**20,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    run.main([config, "--non-blocking"], standalone_mode=False)
    sys.stdin.read()
    for name in serve.status().applications:
        serve.delete(name)  # as a new version or fewer replicas would: Serve's shutdown waits for no request
    serve.shutdown()
    ray.shutdown()
