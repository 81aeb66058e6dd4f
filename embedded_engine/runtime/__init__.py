"""How operations are carried out: Buildah, Podman and Skopeo behind one port."""
