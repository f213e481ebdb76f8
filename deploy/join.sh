#!/bin/sh
# What a web server's machine does before it serves: it joins the cluster, without a processor for its jobs, and joins again
# whenever the cluster was away. Then it becomes the command that it was given.
while :; do
    ray start --address="$QFUND_RAY_ADDRESS" --num-cpus=0 --num-gpus=0 --object-store-memory=100000000 \
        --disable-usage-stats --block
    sleep 2
done >&2 &
exec "$@"
