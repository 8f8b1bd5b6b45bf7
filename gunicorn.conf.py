"""What gunicorn goes by whenever it is started in this folder."""

from __future__ import annotations

# Its control interface would put a socket into the home of whoever starts it: a service user may
# have none, and two instances would share it. Versions before it ignore what they do not know.
control_socket_disable = True
