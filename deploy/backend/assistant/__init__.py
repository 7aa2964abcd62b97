"""The reference backend: a small assistant behind the connector's HTTP contract."""
