package harness

/** The build's parameters: what was handed in, else the default; what is not declared is dropped, as Jenkins does. */
class Parameters {
    static void fill(World world, List<Map> declared) {
        def given = (world.scenario.parameters ?: [:]) as Map
        declared.each { call ->
            def name = call.named.name as String
            def choices = call.named.choices instanceof CharSequence ? call.named.choices.toString().split('\n') as List : call.named.choices
            def standard = call.name == 'choice' ? choices[0] : call.name == 'booleanParam' ? (call.named.defaultValue ?: false) : (call.named.defaultValue ?: '')
            def value = given.containsKey(name) ? given[name] : standard
            if (call.name == 'choice' && !(value in choices)) { world.problem("Illegal choice for parameter ${name}: ${value}") }
            if (call.name == 'booleanParam') { value = value.toString() == 'true' }
            if (call.name == 'string' && call.named.trim) { value = value.toString().trim() }
            world.parameters[name] = value
        }
        world.log(event: 'parameters', declared: declared.collect { [name: it.named.name as String, type: it.name, choices: it.named.choices] },
            dropped: given.keySet().findAll { !world.parameters.containsKey(it) } as List)
    }
}
