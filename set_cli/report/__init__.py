"""From run folders to comparison tables. Needs no torch and no Hydra."""
