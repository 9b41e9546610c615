"""What if: what commands would do to the fleet, decided and applied by what decides and applies, and nothing done."""
