"""A running pipeline seen from outside: metrics, Prometheus, ``endostream top``, systemd."""
