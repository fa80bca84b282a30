package hudson.model

/** Jenkins' results, from best to worst. A build's result only ever gets worse. */
class Result {
    static final Result SUCCESS = new Result(name: 'SUCCESS', ordinal: 0)
    static final Result UNSTABLE = new Result(name: 'UNSTABLE', ordinal: 1)
    static final Result FAILURE = new Result(name: 'FAILURE', ordinal: 2)
    static final Result NOT_BUILT = new Result(name: 'NOT_BUILT', ordinal: 3)
    static final Result ABORTED = new Result(name: 'ABORTED', ordinal: 4)

    String name
    int ordinal

    static Result fromString(String name) {
        [SUCCESS, UNSTABLE, FAILURE, NOT_BUILT, ABORTED].find { it.name == name } ?: FAILURE
    }

    boolean isWorseThan(Result other) { ordinal > other.ordinal }

    Result combine(Result other) { other != null && other.isWorseThan(this) ? other : this }

    String toString() { name }
}
