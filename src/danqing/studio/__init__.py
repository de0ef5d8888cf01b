"""The durable state and the workers of a server: job queue, gallery, accounts.

Knows apps, but nothing of HTTP.

Its modules import SQLAlchemy, which comes with `danqing[studio]`; nothing is imported here.
"""
