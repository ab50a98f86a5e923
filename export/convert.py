"""`python -m export.convert SAVEDMODEL --to onnx`; see `cplus1_keras.convert`."""

from cplus1_keras.convert import main

if __name__ == "__main__":
    main()
