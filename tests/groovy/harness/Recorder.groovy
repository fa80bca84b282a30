package harness

/** Writes down which calls a closure makes: options, parameters, conditions of `post`, `input`, `agent`. */
class Recorder {
    private static final List<String> SYMBOLS = ['logRotator', 'agent', 'nonresumable']
    final JenkinsScript script
    final List<Map> calls = []

    Recorder(JenkinsScript script) { this.script = script }

    def methodMissing(String name, args) {
        def list = args as List
        if (name in SYMBOLS) { return [symbol: name] + (list && list[0] instanceof Map ? list[0] : [:]) }
        if (script.defines(name)) { return script.invokeMethod(name, args) }
        def body = list && list.last() instanceof Closure ? list.last() : null
        def named = list && list[0] instanceof Map ? list[0] : [:]
        def value = list && !(list[0] instanceof Map) && !(list[0] instanceof Closure) ? list[0] : null
        calls << [name: name, named: named, value: value, body: body, arguments: list]
        null
    }

    Object propertyMissing(String name) { script.getProperty(name) }
}
