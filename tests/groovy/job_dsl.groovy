// Runs Job DSL scripts under a recorder that knows none of its methods, and prints what
// they called as JSON: a list for each script of [name, [arguments], [calls within]].
// It proves that they parse and what they say, not what the plugin makes of it.
import groovy.json.JsonOutput
import org.codehaus.groovy.control.CompilerConfiguration

class Recorder {
    List calls = []

    def methodMissing(String name, arguments) {
        def within = new Recorder()
        def plain = []
        for (argument in arguments) {
            if (argument instanceof Closure) {
                argument.delegate = within
                argument.resolveStrategy = Closure.DELEGATE_ONLY
                argument.call()
            } else {
                plain << argument
            }
        }
        calls << [name, plain, within.calls]
        null
    }
}

def configuration = new CompilerConfiguration(scriptBaseClass: DelegatingScript.name)
def shell = new GroovyShell(this.class.classLoader, new Binding(), configuration)
def told = args.collect { path ->
    def recorder = new Recorder()
    def script = shell.parse(new File(path).getText('UTF-8'))
    script.setDelegate(recorder)
    script.run()
    recorder.calls
}
println JsonOutput.toJson(told)
