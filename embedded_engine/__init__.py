"""An engine without a daemon that serves a subset of Dagger's API on Buildah, Podman and Skopeo."""

__version__ = "0.1.0"
