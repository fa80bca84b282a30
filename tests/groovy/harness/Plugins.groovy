package harness

/** Which plugin brings which step, option or symbol. What is not here comes with Pipeline itself. */
class Plugins {
    static final Map<String, List<String>> BRINGS = [
        'ansicolor'                : ['ansiColor'],
        'checks-api'               : ['publishChecks', 'withChecks'],
        'credentials-binding'      : ['withCredentials', 'usernamePassword', 'usernameColonPassword', 'sshUserPrivateKey',
                                      'certificate', 'zip'],
        'htmlpublisher'            : ['publishHTML'],
        'junit'                    : ['junit'],
        'lockable-resources'       : ['lock'],
        'pipeline-build-step'      : ['build'],
        'pipeline-input-step'      : ['input'],
        'pipeline-milestone-step'  : ['milestone'],
        'pipeline-utility-steps'   : ['readJSON', 'writeJSON', 'readYaml', 'findFiles'],
        'timestamper'              : ['timestamps'],
        'warnings-ng'              : ['recordIssues', 'scanForIssues', 'publishIssues', 'sarif', 'junitParser'],
        'ws-cleanup'               : ['cleanWs'],
    ]
    static final List<String> ALL = BRINGS.keySet() as List
    static final Map<String, String> OF = BRINGS.collectMany { plugin, names -> names.collect { [it, plugin] } }.collectEntries()

    static boolean brings(Set<String> installed, String name) { !OF.containsKey(name) || OF[name] in installed }
}
