from cplus1_keras.export import __doc__, console  # noqa: F401  --help shows the docstring of what is run

if __name__ == "__main__":
    console()
