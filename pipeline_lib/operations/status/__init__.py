"""How far a study is, from its files alone: nothing is written or asked for. Never imports torch."""
