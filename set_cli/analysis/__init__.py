"""What a topology has become: degrees, power laws, layered-graph measures, overlap. Needs no torch and no Hydra."""
