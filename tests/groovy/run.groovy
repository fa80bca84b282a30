import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import harness.Source
import harness.World
import java.nio.file.Paths

// run.groovy REQUEST ANSWER DIRECTORY: runs the scenarios of a JSON file, one after the other, and writes
// one JSON answer. A scenario runs in a directory of its own below DIRECTORY.
def request = new JsonSlurper().parse(new File(args[0]), 'UTF-8')
def sources = [:]
def left = [:]
def answers = []
System.setOut(System.err)

request.scenarios.eachWithIndex { scenario, index ->
    def text = (scenario.text ?: request.text) as String
    def answer = [name: scenario.name]
    answers << answer
    try {
        if (!sources.containsKey(text)) { sources[text] = new Source(text) }
        def source = sources[text]
        def directory = Paths.get(args[2], "scenario-${index}")
        // A restart has the parameters, stashes and set variables of the build that it is of, as Jenkins copies them.
        def before = scenario.restart ? left[scenario.restart.of] : null
        def world = new World(before ? scenario + [parameters: before.scenario.parameters] : scenario, directory)
        if (before) {
            world.stashes = new HashMap(before.stashes)
            world.globalEnvironment.putAll(before.globalEnvironment)
        }
        answer.errors = source.errors(world.plugins)
        answer.shells = source.shells
        answer.forbidden = source.forbidden
        if (!answer.errors && !scenario.only_check) {
            def script = source.type.newInstance()
            script.attach(world)
            script.run()
            left[scenario.name] = world
        }
        answer.events = world.events
        answer.problems = world.problems
        answer.result = (world.result ?: 'SUCCESS').toString()
        answer.display_name = world.displayName
        answer.description = world.description
        answer.directory = directory.toString()
    } catch (org.codehaus.groovy.control.CompilationFailedException error) {
        answer.errors = [error.message]
    } catch (Throwable error) {
        // The model itself failed, or the file does something outside its pipeline block that it does not know.
        answer.crash = error.toString() + '\n' + error.stackTrace.findAll { it.fileName?.endsWith('.groovy') }.take(12).join('\n')
    }
}
new File(args[1]).setText(JsonOutput.toJson(answers), 'UTF-8')
