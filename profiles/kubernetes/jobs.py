#!/usr/bin/env python3
"""Stages as Jobs of Kubernetes, for Snakemake's executor cluster-generic.

jobs.py submit STAGE CORES MEMORY_MB GPUS MINUTES SCRIPT   prints the name of the Job
jobs.py status JOB                                         prints running, success or failed
jobs.py JOB...                                             deletes them
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

NAMESPACE = "default"
IMAGE = "your-registry/cxr:latest"  # of this repository's Dockerfile
CLAIM, MOUNT = "cxr", "/shared"  # a ReadWriteMany claim; the clone lies in it, under the same path everywhere
GPU = "nvidia.com/gpu"
GRACE = 120  # seconds for a training's save
CONTAINER = Path(__file__).resolve().parents[1] / "container.sh"


def manifest(stage: str, cores: int, memory: int, gpus: int, minutes: int, script: str) -> dict:
    """The Job that runs a script. memory: MB."""
    resources = {"cpu": str(cores), "memory": f"{memory}M"} | ({GPU: str(gpus)} if gpus else {})
    container = {
        "name": "stage",
        "image": IMAGE,
        "command": ["bash", str(CONTAINER), script],
        "env": [{"name": name, "value": value} for name, value in os.environ.items() if name.startswith("CXR_")],
        "resources": {"requests": resources, "limits": resources},
        "volumeMounts": [{"name": "clone", "mountPath": MOUNT}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "containers": [container],
        "volumes": [{"name": "clone", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    if gpus:
        pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"cxr-{re.sub('[^a-z0-9]+', '-', stage.lower())[:40]}-",
            "labels": {"app": "cxr"},
            "annotations": {"cxr/stage": stage},
        },
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 60 * minutes, "template": {"spec": pod}},
    }


def kubectl(*words: str, text: str = "") -> subprocess.CompletedProcess:
    command = ["kubectl", "--namespace", NAMESPACE, *words]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True)


def status(job: str) -> str:
    """What can't be asked now counts as running; a Job that is gone has failed."""
    words = "{.metadata.name} {.status.conditions[?(@.status=='True')].type}"
    done = kubectl("get", "job", job, "--ignore-not-found", "--output", f"jsonpath={words}")
    if done.returncode or done.stdout.split() == [job]:
        return "running"
    conditions = done.stdout.split()
    if "Complete" in conditions:
        return "success"
    return "failed" if "Failed" in conditions or not conditions else "running"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["submit", name, *numbers, path]:
            made = kubectl(
                "create", "--filename", "-", "--output", "jsonpath={.metadata.name}",
                text=json.dumps(manifest(name, *(int(number) for number in numbers), path)),
            )  # fmt: skip
            print(made.stdout)
            sys.exit(made.returncode)
        case ["status", job]:
            print(status(job))
        case jobs:
            kubectl("delete", "job", "--ignore-not-found", "--wait=false", *jobs)
