package harness

/** What the Jenkinsfile is compiled into: unknown methods are steps, unknown names are variables. */
abstract class JenkinsScript extends Script {
    private World world
    private Steps steps
    private Engine engine
    private Set<String> own

    void attach(World world) {
        this.@world = world
        this.@steps = new Steps(world, this)
        this.@engine = new Engine(world, this, this.@steps)
    }

    def pipeline(Closure body) { this.@engine.run(body) }

    def methodMissing(String name, args) { this.@steps.call(name, args as List) }

    /** Whether the file itself has a method of that name. */
    boolean defines(String name) {
        if (this.@own == null) { this.@own = getClass().declaredMethods*.name as Set }
        name in this.@own
    }

    def invokeMethod(String name, Object args) {
        def list = args instanceof Object[] ? args as List : [args]
        if (name in ['pipeline', 'defines', 'attach'] || defines(name)) { return getMetaClass().invokeMethod(this, name, args) }
        this.@steps.call(name, list)
    }

    Object getProperty(String name) {
        switch (name) {
            case ['binding', 'metaClass', 'class']: return getMetaClass().getProperty(this, name)
            case 'env': return new Environment(world: this.@world)
            case 'params': return Collections.unmodifiableMap(this.@world.parameters)
            case 'currentBuild': return new CurrentBuild(world: this.@world)
            case 'scm': return '(scm)'
        }
        if (getBinding().hasVariable(name)) { return getBinding().getVariable(name) }
        def environment = this.@world.environment()
        if (environment.containsKey(name)) { return environment[name] }
        if (getMetaClass().hasProperty(this, name)) { return getMetaClass().getProperty(this, name) }
        throw new MissingPropertyException(name, getClass())
    }
}
