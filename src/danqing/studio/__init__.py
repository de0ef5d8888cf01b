"""What a server keeps: a durable queue of jobs, a gallery, processes that work. Knows apps, never HTTP.

The parts import SQLAlchemy, which comes with `danqing[studio]`; nothing is imported here.
"""
