package hudson

/** A step failed and has said why. */
class AbortException extends IOException {
    AbortException(String message) { super(message) }
}
