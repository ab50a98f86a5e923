"""`python -m export.watch ANSWERS`; see `cplus1_keras.watch`."""

from cplus1_keras.watch import main

if __name__ == "__main__":
    main()
