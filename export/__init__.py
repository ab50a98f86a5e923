"""`python -m export RUN`: a finished run as a SavedModel. The command is `cplus1_keras.export`."""
