"""`python -m export RUN`: a finished run as a SavedModel. The code is in `cplus1_keras.serving`."""
