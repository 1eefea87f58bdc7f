#!/usr/bin/env python3
"""Stages as jobs of AWS Batch, for Snakemake's executor cluster-generic.

jobs.py submit STAGE CORES MEMORY_MB GPUS MINUTES SCRIPT   prints the id of the job
jobs.py status JOB                                         prints running, success or failed
jobs.py JOB...                                             ends them
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

QUEUE = "cxr"
DEFINITION = "cxr"  # a job definition with the image and the EFS volume: docs/how-to/cluster.md
CONTAINER = Path(__file__).resolve().parents[1] / "container.sh"


def request(stage: str, cores: int, memory: int, gpus: int, minutes: int, script: str) -> dict:
    """What submit-job takes to run a script. memory: MB."""
    resources = {"VCPU": cores, "MEMORY": memory} | ({"GPU": gpus} if gpus else {})
    return {
        "jobName": f"cxr-{re.sub('[^A-Za-z0-9_-]', '-', stage)}"[:128],
        "jobQueue": QUEUE,
        "jobDefinition": DEFINITION,
        "containerOverrides": {
            "command": ["bash", str(CONTAINER), script],
            "environment": [
                {"name": name, "value": value} for name, value in os.environ.items() if name.startswith("CXR_")
            ],
            "resourceRequirements": [{"type": kind, "value": str(value)} for kind, value in resources.items()],
        },
        "timeout": {"attemptDurationSeconds": 60 * minutes},
    }


def batch(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["aws", "batch", *words, "--output", "text"], stdout=subprocess.PIPE, text=True)


def status(job: str) -> str:
    """What can't be asked now counts as running; a job that Batch has forgotten has failed."""
    done = batch("describe-jobs", "--jobs", job, "--query", "jobs[0].status")
    if done.returncode:
        return "running"
    return {"SUCCEEDED": "success", "FAILED": "failed", "None": "failed"}.get(done.stdout.strip(), "running")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["submit", name, *numbers, path]:
            text = json.dumps(request(name, *(int(number) for number in numbers), path))
            sent = batch("submit-job", "--cli-input-json", text, "--query", "jobId")
            print(sent.stdout.strip())
            sys.exit(sent.returncode)
        case ["status", job]:
            print(status(job))
        case jobs:  # all at once: Snakemake waits two seconds
            for job in jobs:
                words = ["aws", "batch", "terminate-job", "--job-id", job, "--reason", "cancelled"]
                subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
