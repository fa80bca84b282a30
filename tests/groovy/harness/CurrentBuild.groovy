package harness

/** `currentBuild`: only what the sandbox allows. */
class CurrentBuild {
    World world

    Object getProperty(String name) {
        switch (name) {
            case 'result': return world.result?.toString()
            case 'currentResult': return (world.result ?: 'SUCCESS').toString()
            case 'displayName': return world.displayName
            case 'fullDisplayName': return "${world.scenario.env?.JOB_NAME} ${world.displayName}".toString()
            case 'description': return world.description
            case 'number': return world.scenario.number ?: 1
            case 'id': return (world.scenario.number ?: 1).toString()
            case 'previousBuild': return null
            case 'previousSuccessfulBuild': return null
            case 'changeSets': return []
            case 'duration': return 0L
            case 'durationString': return '0 ms'
            case 'startTimeInMillis': return 0L
            case 'buildVariables': return world.globalEnvironment
            case ['world', 'metaClass', 'class']: return metaClass.getProperty(this, name)
        }
        world.problem("currentBuild.${name} is not allowed in the sandbox or not known")
        throw new SecurityException("Scripts not permitted to use currentBuild.${name}")
    }

    void setProperty(String name, Object value) {
        switch (name) {
            case 'world': metaClass.setProperty(this, name, value); break
            case 'result': world.worsen(value); world.log(event: 'result', result: value as String); break
            case 'displayName': world.displayName = value as String; break
            case 'description': world.description = value as String; break
            default: throw new MissingPropertyException(name, CurrentBuild)
        }
    }

    boolean resultIsBetterOrEqualTo(String other) {
        !(world.result ?: hudson.model.Result.SUCCESS).isWorseThan(hudson.model.Result.fromString(other))
    }

    boolean resultIsWorseOrEqualTo(String other) {
        !hudson.model.Result.fromString(other).isWorseThan(world.result ?: hudson.model.Result.SUCCESS)
    }

    List getBuildCauses(Object... ignored) { (world.scenario.causes ?: []) as List }
}
