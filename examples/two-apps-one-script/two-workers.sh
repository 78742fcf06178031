#!/bin/sh
# Two programs in one script, one in the background, each with work to finish when it is told to stop.
# Nothing in here handles the stop for both: that is what the init is for. After two seconds the
# script asks for the stop itself, so that there is something to see.

worker() {
    trap 'echo "$1: finishing what it has begun"; sleep "$2"; echo "$1: finished"; exit 0' TERM
    echo "$1: ready"
    while :; do sleep 0.1 & wait $!; done
}

worker background 2 &
(sleep 2 && kill -TERM "$PPID") &
worker foreground 1
