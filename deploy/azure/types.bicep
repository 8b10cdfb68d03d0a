// What parameters look like that are more than one word.

// One ingress of AKS: z<zone>-<regionCode>-aks.<internalDomain>, by a Traffic Manager profile.
@export()
type ingress = {
  @description('The availability zone that it is in. Machines of the same zone go there first.')
  zone: '1' | '2' | '3'

  @description('Its endpoints, best first.')
  endpoints: ingressEndpoint[]
}

@export()
type ingressEndpoint = {
  @description('Its name in the profile.')
  name: string

  @description('Its private address; of a probed one, the name that it has on the internet.')
  address: string

  @description('Whether it is answered.')
  enabled: bool

  @description('Whether Traffic Manager can probe it: true only for what is reachable from the internet.')
  probed: bool
}

// One service kind, as routes name it.
@export()
type cluster = {
  @description('Its name in routes, such as dicom.')
  name: string

  @description('The name that the ingresses\' certificates must have.')
  serverName: string
}

// One server certificate.
@export()
type serverCertificate = {
  @description('Its name in the main vault.')
  name: string

  @description('DNS names that every version must cover.')
  names: string[]
}

// One of the two programs.
@export()
type program = {
  @description('Where it is: https, best a blob that the machines\' identity may read.')
  url: string

  @description('Its SHA-256, 64 hexadecimal digits.')
  sha256: string
}

@export()
type probeSettings = {
  protocol: 'HTTP' | 'HTTPS' | 'TCP'
  port: int
  path: string
}

@export()
type host = {
  name: string
  addresses: string[]
}

// When machines are added and taken away.
@export()
type scalingBounds = {
  @description('CPU in percent above which machines are added.')
  @minValue(20)
  @maxValue(90)
  cpuOutPercent: int

  @description('CPU in percent below which one is taken away.')
  @minValue(5)
  @maxValue(50)
  cpuInPercent: int

  @description('Megabits per second of one machine, received or sent, above which machines are added.')
  @minValue(10)
  @maxValue(100000)
  networkOutMbps: int

  @description('Megabits per second of one machine below which one is taken away.')
  @minValue(1)
  @maxValue(100000)
  networkInMbps: int
}
