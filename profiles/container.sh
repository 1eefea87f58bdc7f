#!/usr/bin/env bash
# container.sh SCRIPT: the first process of a stage's container. A container's SIGTERM reaches its first process alone. This passes it to
# every process of the stage, and waits for them: a training saves.
set -m # SCRIPT gets a process group of its own
bash "$1" &
stage=$!
end() {
    kill -TERM -- "-$stage"
    while kill -0 -- "-$stage" 2> /dev/null; do sleep 0.2; done
    exit 143
}
trap end TERM
wait "$stage"
