"""Standard benchmarks of general ability: what a model still knows and can do after unlearning."""
