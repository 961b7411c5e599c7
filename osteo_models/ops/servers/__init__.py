"""Servers on this machine's loopback, which outlive the command that starts them.

`local` is what `osteo up` starts over the embedded stores; `cluster` is the topology of a shared installation. A file
here says how one kind of server is started; `launch` starts, finds again and stops whatever it is given.
"""

from osteo_models.ops.servers.launch import forget_servers, running_servers, stop_servers
from osteo_models.ops.servers.local_servers import find_prefect, serve_model, start_servers

__all__ = ["find_prefect", "forget_servers", "running_servers", "serve_model", "start_servers", "stop_servers"]
