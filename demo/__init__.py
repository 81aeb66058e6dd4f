"""What a first run needs: system packages, a registry on loopback, a base image. Standard library only."""
