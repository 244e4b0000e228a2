"""The configuration tree, packaged as set_cli.conf (Hydra finds a package only by its __init__)."""
