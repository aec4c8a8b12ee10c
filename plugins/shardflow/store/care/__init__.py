"""Care of a store: proving it whole, freeing what nothing needs, and making lists anew that were lost."""
