package harness

import hudson.AbortException
import java.nio.file.Paths

/** Steps that run no command and hold no other step. */
class PlainSteps {
    final World world

    PlainSteps(World world) { this.world = world }

    def do_echo(Map named, value, Closure body) { world.log(event: 'echo', text: (named.message ?: value) as String) }

    def do_error(Map named, value, Closure body) { throw new AbortException((named.message ?: value ?: '') as String) }

    def do_unstable(Map named, value, Closure body) {
        world.worsen('UNSTABLE')
        world.log(event: 'unstable', message: (named.message ?: value) as String)
    }

    def do_checkout(Map named, value, Closure body) {
        def node = world.node('checkout')
        if (world.scenario.checkout != null) { node.disk.copy(Paths.get(world.scenario.checkout as String), node.workspace) }
        (world.scenario.files ?: [:]).each { path, text -> node.disk.write(world.path(path as String), text as String) }
        world.log(event: 'checkout', auto: named.auto ?: false)
        [GIT_COMMIT: world.scenario.commit ?: '0' * 40, GIT_BRANCH: world.environment().BRANCH_NAME]
    }

    def do_stash(Map named, value, Closure body) {
        String name = named.name ?: value
        def node = world.node('stash')
        def files = world.files('stash', named.includes, named.excludes)
        world.log(event: 'stash', name: name, includes: named.includes, files: files)
        if (!(name ==~ /[A-Za-z0-9_.-]+/)) { throw new AbortException("stash name '${name}' is not safe") }
        if (!files && !named.allowEmpty) { throw new AbortException("No files included in stash '${name}'") }
        world.stashes[name] = files.collectEntries { [it, node.disk.files[world.path(it)]] }
    }

    def do_unstash(Map named, value, Closure body) {
        String name = named.name ?: value
        def node = world.node('unstash')
        def stash = world.stashes[name]
        world.log(event: 'unstash', name: name, found: stash != null, files: stash?.keySet() as List)
        if (stash == null) { throw new AbortException("No such saved stash '${name}'") }
        stash.each { path, text -> node.disk.write(world.path(path), text) }
    }

    def do_readFile(Map named, value, Closure body) {
        def path = world.path((named.file ?: value) as String)
        def text = world.node('readFile').disk.files[path]
        if (text == null) { throw new java.nio.file.NoSuchFileException(path) }
        text
    }

    def do_writeFile(Map named, value, Closure body) {
        world.node('writeFile').disk.write(world.path(named.file as String), named.text as String)
        world.log(event: 'writeFile', file: named.file as String)
    }

    def do_fileExists(Map named, value, Closure body) {
        world.node('fileExists').disk.files.containsKey(world.path((named.file ?: value) as String))
    }

    def do_readJSON(Map named, value, Closure body) {
        new groovy.json.JsonSlurper().parseText(named.text ?: do_readFile([:], named.file, null))
    }

    def do_junit(Map named, value, Closure body) { reports('junit', named, named.testResults ?: value, named.allowEmptyResults) }

    def do_archiveArtifacts(Map named, value, Closure body) {
        reports('archive', named, named.artifacts ?: value, named.allowEmptyArchive)
    }

    private void reports(String event, Map named, includes, allowEmpty) {
        def files = world.files(event, includes, named.excludes)
        world.log(event: event, files: files, includes: includes as String, fingerprint: named.fingerprint ?: false)
        if (!files && !allowEmpty) { throw new AbortException("No file matches '${includes}'") }
        if (event == 'junit' && world.scenario.failing_tests && files) { world.worsen('UNSTABLE') }
    }

    def do_recordIssues(Map named, value, Closure body) {
        world.node('recordIssues')
        def patterns = ((named.tools ?: [named.tool]) as List).collect { it?.pattern as String }.findAll { it }
        world.log(event: 'recordIssues', files: patterns.collectMany { world.files('recordIssues', it) }, arguments: named.collectEntries { k, v -> [k, v as String] })
    }

    def do_publishHTML(Map named, value, Closure body) {
        world.node('publishHTML')
        world.log(event: 'publishHTML', arguments: named.collectEntries { k, v -> [k, v as String] })
    }

    def do_publishChecks(Map named, value, Closure body) { world.log(event: 'publishChecks') }

    def do_deleteDir(Map named, value, Closure body) { clean('deleteDir') }

    def do_cleanWs(Map named, value, Closure body) { clean('cleanWs') }

    private void clean(String event) {
        def node = world.node(event)
        node.disk.clear(node.workspace)
        if (event == 'cleanWs') { node.disk.clear(node.temporary) }
        world.log(event: event)
    }

    def do_milestone(Map named, value, Closure body) { world.log(event: 'milestone', ordinal: named.ordinal ?: value, held: world.nodes.size()) }

    def do_build(Map named, value, Closure body) {
        world.log(event: 'build', job: (named.job ?: value) as String, wait: named.wait == null ? true : named.wait)
    }

    def do_properties(Map named, value, Closure body) { world.problem('properties() in a Declarative file overwrites its options') }

    def do_sleep(Map named, value, Closure body) { world.log(event: 'sleep') }

    def do_pwd(Map named, value, Closure body) {
        def node = world.node('pwd')
        named.tmp ? node.temporary : node.workspace
    }

    def do_isUnix(Map named, value, Closure body) { world.node('isUnix') != null }

    /** Symbols: descriptions that are handed to a step or an option. */
    def do_logRotator(Map named, value, Closure body) { [symbol: 'logRotator'] + named }

    def do_agent(Map named, value, Closure body) { [symbol: 'agent'] }

    def do_nonresumable(Map named, value, Closure body) { [symbol: 'nonresumable'] }

    def do_sarif(Map named, value, Closure body) { [symbol: 'sarif'] + named }

    def do_choice(Map named, value, Closure body) { [symbol: 'choice'] + named }

    def do_booleanParam(Map named, value, Closure body) { [symbol: 'booleanParam'] + named }

    def do_text(Map named, value, Closure body) { [symbol: 'text'] + named }

    def do_string(Map named, value, Closure body) { [symbol: 'string'] + named }

    def do_file(Map named, value, Closure body) { [symbol: 'file'] + named }

    def do_usernamePassword(Map named, value, Closure body) { [symbol: 'usernamePassword'] + named }

    def do_sshUserPrivateKey(Map named, value, Closure body) { [symbol: 'sshUserPrivateKey'] + named }
}
