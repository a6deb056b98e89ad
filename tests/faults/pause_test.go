package faults

const childEnv = "FAULTS_TEST_CHILD"

func child() {}
