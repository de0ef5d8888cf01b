"""Our own routes, a module for each resource."""
