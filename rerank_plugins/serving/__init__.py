"""The same scorer over HTTP, in the shapes that rerank clients know.

`create_app` makes the application of any scorers, `ServerOptions` says where and how it is served,
and ``rerank-plugins serve`` runs it. Needs the extra ``serve``.
"""

from rerank_plugins.errors import require_extra

require_extra("fastapi", "uvicorn", "prometheus_client", extra="serve", purpose="serving")

from rerank_plugins.serving.app import create_app  # noqa: E402
from rerank_plugins.serving.options import ServerOptions  # noqa: E402
from rerank_plugins.serving.served_models import ServedModel  # noqa: E402

__all__ = ["ServedModel", "ServerOptions", "create_app"]
