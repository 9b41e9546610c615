"""What if: what commands would do to the fleet, decided and folded by what decides and folds, and nothing done."""
