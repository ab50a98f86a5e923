"""Open-set classification for Keras 3: classifiers that can say "none of these"."""
