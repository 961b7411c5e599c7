"""Servers on this machine's loopback, which outlive the command that starts them.

`local` is what `osteo up` starts over the embedded stores; `cluster` is the topology of a shared installation. A file
here says how one kind of server is started; `launch` starts, finds again and stops whatever it is given.
"""

from osteo_models.servers.launch import forget_servers, running_servers, stop_servers
from osteo_models.servers.local import find_prefect, start_servers
from osteo_models.servers.scoring import serve_model

__all__ = ["find_prefect", "forget_servers", "running_servers", "serve_model", "start_servers", "stop_servers"]
