#!/bin/sh
# The simulator asks for no password, so it answers to loopback only. Inside of these networks, which nobody else is in,
# it answers to all: what comes to port 7080 of this container goes to its loopback.
set -e
iptables -t nat -A PREROUTING -p tcp --dport 7080 -j DNAT --to-destination 127.0.0.1:7080
