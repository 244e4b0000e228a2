"""A sparse network in scikit-learn's conventions, trained as the runs are."""
