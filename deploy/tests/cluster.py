"""What a cluster would refuse, or do wrong, with objects that fit their schemas: `faults(objects)` says it in words.

The rules are in cluster_links.py (what one object says of another) and cluster_pods.py (what a pod says of itself).
test_cluster.py plants a mistake for each rule, and sees it found."""

import cluster_links
import cluster_pods
from cluster_world import Object, World


def faults(objects: list[Object]) -> list[str]:
    world = World(objects)
    return [fault for rule in (*cluster_links.RULES, *cluster_pods.RULES) for fault in rule(world)]
