"""Training: the pure steps, the program that compiles them, the feed, and the loop around them."""
