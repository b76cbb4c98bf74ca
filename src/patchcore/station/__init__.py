"""Station: a server and its pages, on which people on a line inspect, review and teach. `patchcore serve`."""
