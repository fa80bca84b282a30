package harness

/** `environment`: NAME = value, in order; a name may use the ones above it. */
class EnvironmentReader {
    final JenkinsScript script
    final Map<String, String> variables = [:]
    /** NAME -> id of credentials */
    final Map<String, String> credentialsIds = [:]

    EnvironmentReader(JenkinsScript script) { this.script = script }

    Object getProperty(String name) {
        if (name in ['script', 'variables', 'credentialsIds', 'metaClass', 'class']) { return metaClass.getProperty(this, name) }
        variables.containsKey(name) ? variables[name] : script.getProperty(name)
    }

    void setProperty(String name, Object value) {
        if (value instanceof Map && value.symbol == 'credentials') {
            credentialsIds[name] = value.id as String
        } else {
            variables[name] = value as String
        }
    }

    def credentials(id) { [symbol: 'credentials', id: id as String] }

    def methodMissing(String name, args) { script.invokeMethod(name, args) }
}
