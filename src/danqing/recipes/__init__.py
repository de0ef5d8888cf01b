"""How each set of weights is made: one module for each, named after what `danqing train` calls it."""
