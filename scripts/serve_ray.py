"""Serves models on many machines by Ray: `serve run serve_ray:deploy models=/models/digits.keras replicas=8`, in here.

Each replica (`pip install "ray[serve]"` beside `kerax[serve]`) is a `kerax.serve.Server` of its own, with its device
and its batches. Ray's proxies spread the requests over them; the routes are those of `kerax serve`.
"""

from ray import serve


def deploy(args: dict) -> serve.Application:
    """What Ray starts: `models` as for `kerax serve`, commas between them; `replicas`, and `gpus` of each replica."""

    def application():
        import kerax

        server = kerax.serve.app(args["models"].split(","), **args.get("options", {}))
        server.wait()  # Ray sends requests as soon as there is an application
        return server

    replicas, resources = int(args.get("replicas", 1)), {"num_gpus": float(args.get("gpus", 0))}
    # As many as wait in two batches: what one replica does not take, Ray gives to another.
    made = serve.deployment(serve.ingress(application)(), name="kerax", max_ongoing_requests=64)
    return made.options(num_replicas=replicas, ray_actor_options=resources).bind()
