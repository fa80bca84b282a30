package harness

/** `env`: reads what a step would see; writing lasts for the build. */
class Environment {
    World world

    Object getProperty(String name) {
        name == 'world' ? metaClass.getProperty(this, name) : name == 'environment' ? world.environment() : world.environment()[name]
    }

    void setProperty(String name, Object value) {
        if (name == 'world') {
            metaClass.setProperty(this, name, value)
        } else {
            world.globalEnvironment[name] = value as String
            world.log(event: 'env', name: name, value: value as String)
        }
    }

    def getAt(String name) { getProperty(name) }

    void putAt(String name, Object value) { setProperty(name, value) }
}
