"""set-bench: engines side by side on the paper's layer shapes, and the dense network."""
